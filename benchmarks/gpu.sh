#!/bin/bash
# Everything that needs a CUDA device, in the order of what is to be known first: whether the kernels
# are right, the tests, what watching costs, how fast batches arrive. Nothing is fetched: it takes the
# python3 and the packages that are there, and does without the C kernels where they do not build.
#
#   benchmarks/gpu.sh                          all of it, within LIMIT_S seconds (300)
#   ONLY="build check watch" benchmarks/gpu.sh     some of it
#
# What is printed is also in $OUT (by default build/gpu), with the results as JSON.
cd "$(dirname "$0")/.." || exit 1
OUT=${OUT:-build/gpu}
mkdir -p "$OUT"
END=$(( $(date +%s) + ${LIMIT_S:-300} ))
ONLY=${ONLY:-build check kernels tests watch loader gather}
PY=${PYTHON:-python3}
export PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 OMP_NUM_THREADS=${OMP_NUM_THREADS:-4}

build() {
  $PY -c 'import sys, torch; print(sys.version.split()[0], torch.__version__)
print(torch.cuda.get_device_name() if torch.cuda.is_available() else "no CUDA device")'
  for package in triton numpy pytest hypothesis pytest_timeout xdist scikit_build_core; do
    $PY -c "import $package; print('$package', getattr($package, '__version__', 'there'))" \
      2>/dev/null || echo "$package is missing"
  done
  echo "cores $(nproc), $(command -v gcc || echo no gcc), $(df -h /dev/shm | tail -1)"
  rm -rf build/installed
  timeout 60 $PY -m pip install -q --no-index --no-deps --no-build-isolation \
      --disable-pip-version-check --target build/installed . && return 0
  echo "it does not build: from its sources, with the C kernels where gcc finds Python's headers"
  rm -rf build/installed
  include=$($PY -c 'import sysconfig; print(sysconfig.get_path("include"))')
  gcc -O3 -shared -fPIC -fopenmp-simd -fno-math-errno -fno-trapping-math -ffp-contract=off \
      -pthread "-I$include" src/lampwork/_native/csrc/*.c -lm \
      -o src/lampwork/_native/_kernels.abi3.so || echo "no C kernels"
}
if [ "$1" = --build ]; then build; exit 0; fi

failed=""
step() { # step NAME SECONDS COMMAND…
  local name=$1 limit=$2 left began code
  shift 2
  case " $ONLY " in *" $name "*) ;; *) return ;; esac
  left=$(( END - $(date +%s) ))
  if [ "$left" -lt 10 ]; then echo "== $name: no time left"; failed="$failed $name"; return; fi
  [ "$limit" -gt "$left" ] && limit=$left
  began=$(date +%s)
  echo "== $name (at most $limit s)"
  timeout -k 5 "$limit" "$@" 2>&1 | tee "$OUT/$name.log"
  code=${PIPESTATUS[0]}
  echo "== $name: exit $code after $(( $(date +%s) - began )) s"
  [ "$code" -eq 0 ] || failed="$failed $name"
}
# Warnings of another version of a dependency are not what is asked here.
pytest="$PY -m pytest -q --maxfail=8 --tb=short -W default -p no:cacheprovider --durations=5"

step build 90 bash benchmarks/gpu.sh --build
[ -d build/installed/lampwork ] && PYTHONPATH=$PWD/build/installed || PYTHONPATH=$PWD/src
export PYTHONPATH
step check 60 $PY benchmarks/gpu_check.py
step kernels 80 $pytest tests/native/test_stats_cuda.py
step tests 70 $pytest tests/watching/test_cuda.py tests/data/test_device.py
step watch 90 $PY benchmarks/bench_watch_gpu.py $WATCH
step loader 70 $PY benchmarks/bench_loader_gpu.py
step gather 30 $pytest tests/data/test_gather.py -k cuda
cp benchmarks/results/*_gpu.json "$OUT"/ 2>/dev/null
echo "== failed:${failed:- nothing}"
[ -z "$failed" ]
