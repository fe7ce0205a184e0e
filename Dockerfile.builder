# The image builder: images from layers, without a daemon or root; its API on 7007.
# Any image with python 3.11 or newer as `python3`, its venv module and ca-certificates.
ARG PYTHON_IMAGE=python:3.11-slim

# The company's own network, without editing this file: the README tells which way each setting comes. Two folders of
# what is made here are copied into the image, so a password in an address stays out of it. Proxies need no line.
FROM ${PYTHON_IMAGE} AS tools
LABEL io.tango.cloud-deploy.stage=build
COPY docker/certificates /certificates
RUN mkdir /opt/trust \
    && for each in /etc/ssl/certs/ca-certificates.crt /certificates/*; do \
           if [ -f "$each" ]; then cat "$each" && echo; fi; \
       done >/opt/trust/ca.pem \
    && python3 -m venv /tools
ARG PIP_INDEX_URL
ARG PIP_EXTRA_INDEX_URL
ARG PIP_TRUSTED_HOST
ARG PIP_DEFAULT_TIMEOUT
ENV PIP_CERT=/opt/trust/ca.pem SSL_CERT_FILE=/opt/trust/ca.pem PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
COPY docker/tools.lock /locks/
RUN /tools/bin/pip install --quiet --require-hashes --only-binary :all: --requirement /locks/tools.lock

FROM tools AS wheel
COPY LICENSE README.md pyproject.toml /source/
COPY cloud_manager /source/cloud_manager
COPY image_builder /source/image_builder
RUN /tools/bin/pip wheel --quiet --no-deps --no-build-isolation --wheel-dir /wheels /source

FROM tools AS build
ARG PIP_INDEX_URL
ARG PIP_EXTRA_INDEX_URL
ARG PIP_TRUSTED_HOST
ARG PIP_DEFAULT_TIMEOUT
COPY docker/builder.lock docker/lighten.py /locks/
# uv takes pip's settings by other names.
RUN python3 -m venv --without-pip /opt/cloud-deploy \
    && UV_HTTP_TIMEOUT="${PIP_DEFAULT_TIMEOUT:-60}" /tools/bin/uv pip install --quiet --no-cache --no-config \
           ${PIP_INDEX_URL:+--default-index "$PIP_INDEX_URL"} \
           $(for each in $PIP_EXTRA_INDEX_URL; do echo "--index $each"; done) --index-strategy unsafe-best-match \
           $(for each in $PIP_TRUSTED_HOST; do echo "--allow-insecure-host $each"; done) \
           --python /opt/cloud-deploy/bin/python --require-hashes --only-binary :all: --requirement /locks/builder.lock \
    && python3 /locks/lighten.py /opt/cloud-deploy/lib/python3.*/site-packages \
    && rm -f /opt/cloud-deploy/.lock
COPY --from=wheel /wheels /wheels
COPY docker/import_all.py /
# The container cannot write bytecode: what the program imports is compiled here, and nothing else is.
RUN /tools/bin/pip --python /opt/cloud-deploy/bin/python install --quiet --no-compile --no-deps --no-index /wheels/*.whl \
    && /opt/cloud-deploy/bin/python /import_all.py image_builder

# Of the base: what a service needs to run. Installers, perl, manuals and set-user-id bits are for building machines;
# the modules of python itself, which the official image has as source alone, are compiled.
FROM ${PYTHON_IMAGE} AS system
LABEL io.tango.cloud-deploy.stage=build
RUN lib=$(python3 -c 'import sysconfig; print(sysconfig.get_path("stdlib"))') \
    && rm -rf "$lib/distutils" "$lib/ensurepip" "$lib/idlelib" "$lib/lib2to3" "$lib/pydoc_data" "$lib/test" \
           "$lib/tkinter" "$lib/turtledemo" "$lib"/site-packages/* /usr/lib/python3/dist-packages /usr/share/python-wheels \
           /usr/bin/pip* /usr/local/bin/pip* /usr/local/bin/idle* /usr/local/bin/pydoc* \
           /usr/bin/apt* /usr/lib/apt /usr/lib/*/libapt-* /var/lib/apt /usr/bin/dpkg* /usr/lib/dpkg \
           /usr/bin/perl* /usr/lib/*/libperl.* /usr/lib/*/perl /usr/lib/*/perl-base /usr/share/perl* \
           /usr/lib/*/gconv /var/lib/dpkg/info \
           /usr/share/doc /usr/share/info /usr/share/locale /usr/share/man /var/cache/* /var/log/* \
    && find / -xdev -type f -perm /6000 -exec chmod a-s {} + \
    && python3 -m compileall -q "$lib"

FROM scratch
COPY --from=system / /
# Whom it runs as: its volume is his, and of the shared disk it reads what he may read.
ARG UID=10001
ARG GID=10001
RUN install -d -m 0700 -o "$UID" -g "$GID" /var/lib/cloud-deploy \
    && install -d -m 0755 -o "$UID" -g "$GID" /shared
COPY --from=build /opt/trust /opt/trust
COPY --from=build /opt/cloud-deploy /opt/cloud-deploy
ENV PATH=/opt/cloud-deploy/bin:/usr/local/bin:/usr/bin:/bin \
    LANG=C.UTF-8 \
    HOME=/var/lib/cloud-deploy \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    SSL_CERT_FILE=/opt/trust/ca.pem \
    DOCKER_CONFIG=/etc/cloud-deploy/logins \
    PIP_CONFIG_FILE=/dev/null \
    IMAGE_BUILDER_HOST=0.0.0.0 \
    IMAGE_BUILDER_PORT=7007 \
    WEB_HOST=0.0.0.0 \
    WEB_PORT=8080 \
    ALLOW_NO_TOKEN=1 \
    LOG_FORMAT=json
LABEL org.opencontainers.image.title="TANGO image builder" \
      org.opencontainers.image.description="Container images from layers: no Dockerfile, no daemon, no root" \
      org.opencontainers.image.licenses="Apache-2.0"
USER ${UID}:${GID}
VOLUME /var/lib/cloud-deploy
EXPOSE 7007 8080
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 \
    CMD ["python", "-I", "-S", "-c", "import os, sys; from http.client import HTTPConnection; it = HTTPConnection('127.0.0.1', int(os.environ['IMAGE_BUILDER_PORT']), timeout=4); it.request('GET', '/healthz'); sys.exit(it.getresponse().status != 200)"]
CMD ["python", "-m", "image_builder"]
