ARG BASE=python:3.13-slim

FROM ${BASE} AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /src
# The dependencies first: this layer changes with the lock only.
COPY requirements/ requirements/
RUN python3 -m venv /opt/build && python3 -m venv --without-pip /opt/dynaside \
    && /opt/build/bin/python -m pip install --quiet --require-hashes --no-deps --only-binary :all: \
        -r requirements/build.lock \
    && /opt/build/bin/python -m pip --python /opt/dynaside/bin/python install --quiet \
        --require-hashes --no-deps --only-binary :all: -r requirements/runtime.lock
COPY pyproject.toml README.md LICENSE ./
COPY config/ config/
COPY proxy/ proxy/
RUN /opt/build/bin/python -m hatchling build -t wheel -d /dist \
    && /opt/build/bin/python -m pip --python /opt/dynaside/bin/python install --quiet \
        --no-deps --no-index --compile /dist/*.whl

FROM ${BASE}
LABEL org.opencontainers.image.title="dynaside" \
      org.opencontainers.image.description="Read-through caching sidecar proxy for DynamoDB" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /opt/dynaside /opt/dynaside
# Nothing is written at run time: byte code is compiled above, the root file system may be read-only.
ENV PATH=/opt/dynaside/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
# A number, so that Kubernetes can check runAsNonRoot without the image's user list.
USER 65532:65532
EXPOSE 8111 8112
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=30s \
    CMD ["dynaside", "wait-ready", "--timeout", "2"]
ENTRYPOINT ["dynaside"]
CMD ["serve"]
