# Two images. `docker build --target light .` uses finished models; `docker build --target train .` trains, too.
#
#   docker run --rm --volume "$PWD:/data" --user "$(id -u):$(id -g)" textclf classify model.tflite in.csv -o out.csv
ARG PYTHON=3.12

FROM python:${PYTHON}-slim-bookworm AS wheel
WORKDIR /source
COPY pyproject.toml README.md LICENSE MANIFEST.in ./
COPY textclf textclf
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheels .

FROM python:${PYTHON}-slim-bookworm AS light
# Messages are written at once; the home folder, with textclf's cache in it, may be written by any user.
ENV HOME=/home/textclf PYTHONUNBUFFERED=1
RUN useradd --uid 1000 --create-home --home-dir /home/textclf textclf && chmod 1777 /home/textclf
RUN --mount=type=bind,from=wheel,source=/wheels,target=/wheels \
    pip install --no-cache-dir /wheels/*.whl
USER 1000
WORKDIR /data
ENTRYPOINT ["textclf"]
CMD ["--help"]

# The versions with which the tests pass come first, so that an image made again is the same.
FROM python:${PYTHON}-slim-bookworm AS train
ENV HOME=/home/textclf PYTHONUNBUFFERED=1 MPLCONFIGDIR=/tmp/matplotlib
RUN useradd --uid 1000 --create-home --home-dir /home/textclf textclf && chmod 1777 /home/textclf
COPY requirements.txt /tmp/requirements.txt
RUN pip install --no-cache-dir --requirement /tmp/requirements.txt
RUN --mount=type=bind,from=wheel,source=/wheels,target=/wheels \
    pip install --no-cache-dir --no-deps /wheels/*.whl
USER 1000
WORKDIR /data
ENTRYPOINT ["textclf"]
CMD ["--help"]
