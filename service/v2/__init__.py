"""The Open Inference Protocol v2 over REST, as Triton, KServe and their clients speak it; see docs/protocol.md."""
