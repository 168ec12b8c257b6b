# Images of the server. Targets: cpu (the default), gpu (x86-64 with an NVIDIA card), jetson (JetPack 6).
#
#   docker build --target cpu --tag slimpath:cpu .
#   docker run --read-only --tmpfs /tmp --cap-drop ALL --publish 127.0.0.1:8000:8000 \
#       --env SLIMPATH_API_KEYS=me:SECRET slimpath:cpu
#
# The last stages run as a user without rights, write only to /var/cache/slimpath and /tmp, and hold no compiler, no pip.
# docs/containers.md has the rest. The cpu image is built and run by deploy/check/clean_root.sh; gpu and jetson have not
# been run yet.

ARG DEBIAN=debian:bookworm-slim
ARG JETSON_BASE=nvcr.io/nvidia/l4t-jetpack:r36.4.0

# ---- what the cpu and the gpu image stand on: Debian's Python 3.11, a user, no more
FROM ${DEBIAN} AS base
SHELL ["/bin/bash", "-o", "pipefail", "-c"]
# hadolint ignore=DL3008  # Debian keeps one version of each in a release, and replaces it with every fix
RUN apt-get update \
    && apt-get install --yes --no-install-recommends python3 \
    && rm -rf /var/lib/apt/lists/* \
    && groupadd --gid 10001 slimpath \
    && useradd --uid 10001 --gid 10001 --home-dir /var/cache/slimpath --create-home --shell /usr/sbin/nologin slimpath
ENV PATH=/opt/slimpath/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    SLIMPATH_CACHE=/var/cache/slimpath

# ---- where it is installed
FROM base AS build
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends ca-certificates python3-venv \
    && rm -rf /var/lib/apt/lists/* \
    && python3 -m venv /opt/slimpath
WORKDIR /source
# The libraries are a layer of their own: it is made anew only when pyproject.toml changes.
COPY pyproject.toml deploy/requirements.py ./
RUN python3 requirements.py service > requirements.txt \
    && /opt/slimpath/bin/python -m pip install --no-cache-dir --requirement requirements.txt
COPY . .
RUN /opt/slimpath/bin/python -m pip install --no-cache-dir --no-deps .

# ---- pip stays behind
FROM build AS build-cpu
RUN /opt/slimpath/bin/python -m pip uninstall --yes setuptools pip

# ---- the same with ONNX Runtime's CUDA build and, from the package index, the CUDA libraries it asks for
FROM build AS build-gpu
# One of the two builds of ONNX Runtime, never both: they overwrite each other's files.
RUN /opt/slimpath/bin/python -m pip uninstall --yes onnxruntime \
    && /opt/slimpath/bin/python -m pip install --no-cache-dir "onnxruntime-gpu[cuda,cudnn]>=1.29,<2" \
    && /opt/slimpath/bin/python -m pip uninstall --yes setuptools pip

# ---- JetPack 6: Ubuntu 22.04, Python 3.10, NVIDIA's TensorRT as the base image brings it
FROM ${JETSON_BASE} AS build-jetson
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends ca-certificates python3-venv \
    && rm -rf /var/lib/apt/lists/* \
    && python3 -m venv --system-site-packages /opt/slimpath
WORKDIR /source
COPY . .
# A wheel of onnxruntime-gpu for this JetPack, by URL; empty: ONNX Runtime's CPU build, beside TensorRT's own runtime.
ARG ONNXRUNTIME_WHEEL=
RUN /opt/slimpath/bin/python -m pip install --no-cache-dir ".[service]" \
    && if [ -n "$ONNXRUNTIME_WHEEL" ]; then \
         /opt/slimpath/bin/python -m pip uninstall --yes onnxruntime \
         && /opt/slimpath/bin/python -m pip install --no-cache-dir "$ONNXRUNTIME_WHEEL"; \
       fi \
    && /opt/slimpath/bin/python -m pip uninstall --yes setuptools pip

FROM ${JETSON_BASE} AS jetson
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends python3 \
    && rm -rf /var/lib/apt/lists/* \
    && groupadd --gid 10001 slimpath \
    && useradd --uid 10001 --gid 10001 --groups video --home-dir /var/cache/slimpath --create-home \
        --shell /usr/sbin/nologin slimpath
COPY --from=build-jetson /opt/slimpath /opt/slimpath
COPY deploy/healthcheck.py /usr/local/bin/slimpath-healthcheck
ENV PATH=/opt/slimpath/bin:$PATH \
    NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=all \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    SLIMPATH_CACHE=/var/cache/slimpath
VOLUME /var/cache/slimpath
USER 10001:10001
WORKDIR /var/cache/slimpath
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=120s --retries=3 CMD ["slimpath-healthcheck"]
ENTRYPOINT ["slimpath"]
CMD ["serve", "--host", "0.0.0.0"]

FROM base AS gpu
COPY --from=build-gpu /opt/slimpath /opt/slimpath
COPY deploy/healthcheck.py /usr/local/bin/slimpath-healthcheck
# What NVIDIA's container toolkit reads: the driver comes from the host.
ENV NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility
VOLUME /var/cache/slimpath
USER 10001:10001
WORKDIR /var/cache/slimpath
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=120s --retries=3 CMD ["slimpath-healthcheck"]
ENTRYPOINT ["slimpath"]
CMD ["serve", "--host", "0.0.0.0", "--backend", "onnxruntime-cuda"]

# ---- last, so that it is what `docker build .` makes
FROM base AS cpu
COPY --from=build-cpu /opt/slimpath /opt/slimpath
COPY deploy/healthcheck.py /usr/local/bin/slimpath-healthcheck
VOLUME /var/cache/slimpath
USER 10001:10001
WORKDIR /var/cache/slimpath
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 CMD ["slimpath-healthcheck"]
ENTRYPOINT ["slimpath"]
# Refuses to start without API keys: SLIMPATH_API_KEYS, or --insecure where nobody else reaches the port.
CMD ["serve", "--host", "0.0.0.0"]
