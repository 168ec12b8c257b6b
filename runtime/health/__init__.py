"""How hot the device is, whether it holds its clocks back, what it draws: read from sysfs, told to the controller.

`thermal` and `clocks` find the files, `reading` says what they mean, `watch` reads them four times a second,
`power_limit` keeps a stream below so many watts. Where there are no such files nothing runs. Unverified on a Jetson:
tested on copies of its files.
"""
