"""Answers over HTTP: thin handlers, a scheduler that gets narrower before it gets late. Imports runtime, never torch.

`settings` holds every setting, `app` puts the application together, `server` runs it, `v1` is for people, `v2` the Open
Inference Protocol, `client` what Python programs call.
"""
