# The engine: the vLLM project's image, started with our options and our chat template.
#   docker build -f images/engine.Dockerfile -t safechat/engine:0.1.0 .
FROM vllm/vllm-openai:v0.33.0
# These files need the standard library alone.
COPY server/__init__.py server/engine_command.py server/engine_main.py /opt/safechat/server/
COPY server/templates /opt/safechat/server/templates
# USER is a variable too: torch asks for a name, and this uid has none.
ENV PYTHONPATH=/opt/safechat \
    PYTHONDONTWRITEBYTECODE=1 \
    HOME=/cache \
    HF_HOME=/cache/huggingface \
    XDG_CACHE_HOME=/cache \
    VLLM_CACHE_ROOT=/cache/vllm \
    TRITON_CACHE_DIR=/cache/triton \
    USER=safechat
RUN install -d -o 10001 -g 10001 /cache
USER 10001:10001
WORKDIR /cache
VOLUME /cache
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=5s --start-period=1h \
    CMD ["python3", "-c", "from urllib.request import urlopen; urlopen('http://127.0.0.1:8000/health', timeout=4)"]
ENTRYPOINT ["python3", "-m", "server.engine_main"]
