# Two images from one file: `api` (no torch) and `worker`. Build with docker compose, or
#   docker build --target api -t reinmax-api .
FROM python:3.11-slim-bookworm AS base
ENV PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 \
    PATH=/opt/reinmax/bin:$PATH \
    REINMAX_STATE_DIR=/var/lib/reinmax/state \
    REINMAX_DATA_DIR=/var/lib/reinmax/data \
    REINMAX_ARTIFACTS_URL=/var/lib/reinmax/artifacts \
    REINMAX_HOST=0.0.0.0 \
    REINMAX_PORT=8000
# The folders exist in the image so that named volumes take over their owner.
RUN useradd --uid 10001 --create-home reinmax \
    && install -d -o reinmax -g reinmax /var/lib/reinmax /var/lib/reinmax/state /var/lib/reinmax/data /var/lib/reinmax/artifacts
WORKDIR /home/reinmax

FROM base AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
RUN python3 -m venv /opt/reinmax
WORKDIR /src
COPY constraints.txt pyproject.toml README.md LICENSE ./

# Dependencies are installed before the code is copied, so that a change of code does not fetch them again.
FROM build AS build-api
RUN mkdir -p reinmax_core worker service && touch reinmax_core/__init__.py worker/__init__.py service/__init__.py \
    && pip install --constraint constraints.txt '.[api,flower,s3]' && pip uninstall --yes reinmax-service
COPY reinmax_core reinmax_core
COPY worker worker
COPY service service
RUN pip install --no-deps . && pip uninstall --yes pip setuptools

FROM build AS build-worker
# An index of PyTorch builds: https://download.pytorch.org/whl/cpu for hosts without a GPU; empty for the CUDA build.
ARG TORCH_INDEX_URL=
RUN pip install ${TORCH_INDEX_URL:+--extra-index-url "$TORCH_INDEX_URL"} "$(grep '^torch==' constraints.txt)"
RUN mkdir -p reinmax_core worker service && touch reinmax_core/__init__.py worker/__init__.py service/__init__.py \
    && pip install --constraint constraints.txt '.[worker,s3]' && pip uninstall --yes reinmax-service
COPY reinmax_core reinmax_core
COPY worker worker
COPY service service
RUN pip install --no-deps . && pip uninstall --yes pip

FROM base AS api
COPY --from=build-api /opt/reinmax /opt/reinmax
USER reinmax
EXPOSE 8000
STOPSIGNAL SIGTERM
CMD ["reinmax", "api", "--make-key"]

FROM base AS worker
COPY --from=build-worker /opt/reinmax /opt/reinmax
USER reinmax
STOPSIGNAL SIGTERM
CMD ["reinmax", "worker"]
