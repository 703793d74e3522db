# The SAM backend in a container: `docker build -t segstudio .`, or `docker compose up`.
# It serves; exports, checks and the batch loop are commands of people, installed with pip where
# their files lie (docs/backend.md, "In a container").
FROM python:3.12-slim

# A build of torch of your choice first, for example without CUDA:
#   --build-arg TORCH_SPEC="torch torchvision --index-url <an index with CPU builds>"
ARG TORCH_SPEC=""
# More of pyproject.toml's extras, for example --build-arg EXTRAS=sam,transformers for SAM 2.1.
ARG EXTRAS="sam"
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PYTHONUNBUFFERED=1

WORKDIR /app
RUN if [ -n "$TORCH_SPEC" ]; then pip install $TORCH_SPEC; fi
COPY pyproject.toml README.md LICENSE ./
COPY segstudio segstudio
COPY ml_backend ml_backend
COPY exporters exporters
COPY qa_plugins qa_plugins
COPY batch batch
COPY demo demo
COPY label_configs label_configs
RUN pip install ".[$EXTRAS]"

# Embeddings, downloaded models and compiled kernels live in a volume; nothing runs as root.
RUN useradd --create-home --uid 1000 segstudio && install -d -o segstudio /data
USER segstudio
ENV SEGSTUDIO_CACHE=/data NUMBA_CACHE_DIR=/data/numba
VOLUME /data
EXPOSE 9090

HEALTHCHECK --interval=10s --timeout=2s --start-period=120s CMD ["python", "-c", "import os, urllib.request; urllib.request.urlopen('http://127.0.0.1:9090/' + (os.environ.get('SEGSTUDIO_SECRET_PATH', '') + '/health').lstrip('/'), timeout=1)"]

# Beyond loopback the server demands SEGSTUDIO_BASIC_AUTH or SEGSTUDIO_SECRET_PATH.
ENTRYPOINT ["segstudio", "serve", "--host", "0.0.0.0"]
CMD ["--model", "tiny"]
