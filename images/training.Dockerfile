# Jobs of the flywheel: export, evaluation and training, with torch's CUDA build.
#   docker build -f images/training.Dockerfile -t safechat/training:0.1.0 .
ARG PYTHON=3.11.14-slim-bookworm

FROM python:${PYTHON} AS models
SHELL ["/bin/bash", "-o", "pipefail", "-c"]
# hadolint ignore=DL3008
RUN apt-get update && apt-get install -y --no-install-recommends make && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
RUN make guard

FROM python:${PYTHON} AS install
WORKDIR /src
COPY . .
RUN python -m venv /opt/safechat && images/install.sh /opt/safechat/bin/python train

FROM python:${PYTHON}
COPY --from=install /opt/safechat /opt/safechat
COPY --from=models /src/.cache/guard /opt/guard
COPY images/evaluate.sh /usr/local/bin/evaluate
ENV PATH=/opt/safechat/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    SAFECHAT_GUARD__MODELS=/opt/guard \
    HOME=/data \
    USER=safechat
RUN install -d -o 10001 -g 10001 /data
USER 10001:10001
WORKDIR /data
VOLUME /data
# A job, not a server: there is no health to ask for.
HEALTHCHECK NONE
ENTRYPOINT ["safechat"]
