"""TensorRT through its own API: engines built on the device by `slimpath compile`, loaded by the backend "tensorrt".

Unverified: nobody has run this on hardware. Every name and signature that it uses was read from NVIDIA's own bindings
(tests/runtime/tensorrt/bindings.json), and its logic runs in tests against a fake made from them. See docs/tensorrt.md.
"""
