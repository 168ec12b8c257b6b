"""What this machine is, what slimpath can use on it, what is missing, and the commands that install it.

    machine    what it is, from /proc, /sys and /etc         jetson    what only a Jetson has
    packages   what Python has installed, and twice          probes    libraries tried out in processes of their own
    backends   usable, missing, broken, or no device         installs  the table of commands, installs.json
    diagnose   all of it: is this machine ready?

Nothing but the standard library is imported here, and no inference library in this process: what is broken must not
take the diagnosis with it.
"""
