# The chat page: a client of the gateway.
#   docker build -f images/ui.Dockerfile -t safechat/ui:0.1.0 .
ARG PYTHON=3.11.14-slim-bookworm

FROM python:${PYTHON} AS install
WORKDIR /src
COPY . .
RUN python -m venv /opt/safechat && images/install.sh /opt/safechat/bin/python ui

FROM python:${PYTHON}
COPY --from=install /opt/safechat /opt/safechat
# Gradio asks nobody outside, and writes where a read-only image lets it.
ENV PATH=/opt/safechat/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    GRADIO_ANALYTICS_ENABLED=False \
    GRADIO_TEMP_DIR=/tmp/gradio \
    HF_HUB_OFFLINE=1 \
    HOME=/tmp
USER 10001:10001
WORKDIR /tmp
EXPOSE 7860
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s \
    CMD ["python", "-c", "from urllib.request import urlopen; urlopen('http://127.0.0.1:7860/', timeout=4)"]
ENTRYPOINT ["python", "-m", "ui"]
