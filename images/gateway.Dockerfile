# The gateway: HTTP in, guarded turns out. Neither torch nor vLLM is in it.
#   docker build -f images/gateway.Dockerfile -t safechat/gateway:0.1.0 .
ARG PYTHON=3.11.14-slim-bookworm

# The shipped reward models, exported as `make up` does. This takes torch, and leaves files alone.
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
RUN python -m venv /opt/safechat && images/install.sh /opt/safechat/bin/python

FROM python:${PYTHON}
COPY --from=install /opt/safechat /opt/safechat
COPY --from=models /src/.cache/guard /opt/guard
ENV PATH=/opt/safechat/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    SAFECHAT_GUARD__MODELS=/opt/guard \
    SAFECHAT_JOURNAL__FOLDER=/var/lib/safechat
# The folder exists in the image so that a volume mounted there belongs to the user.
RUN install -d -o 10001 -g 10001 /var/lib/safechat
USER 10001:10001
WORKDIR /var/lib/safechat
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s \
    CMD ["python", "-c", "from urllib.request import urlopen; urlopen('http://127.0.0.1:8000/healthz', timeout=4)"]
ENTRYPOINT ["safechat", "serve"]
