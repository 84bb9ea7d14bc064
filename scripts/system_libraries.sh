#!/usr/bin/env bash
# Sees that Python is new enough and that the system libraries are there that its virtual environments, rendering
# (MuJoCo over EGL), OpenCV (imported by robosuite) and the compilation of evdev (a dependency of robosuite) need.
# Installs what is missing with apt-get when run as root; otherwise says what to install and fails.
set -euo pipefail

python="${PYTHON:-python3}"
if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
    echo "worldvalue needs Python 3.11 or newer: install it, or say where it is: make PYTHON=/path/to/python3.11" >&2
    exit 1
fi
if [[ "$(uname -s)" != Linux ]]; then
    exit 0 # MuJoCo renders through the system's own OpenGL there
fi

libraries="$(PATH="$PATH:/sbin:/usr/sbin" ldconfig -p)"
has_library() { [[ "$libraries" == *"$1"* ]]; }
has_egl_driver() { compgen -G "/usr/share/glvnd/egl_vendor.d/*.json" || compgen -G "/etc/glvnd/egl_vendor.d/*.json"; }

version="$("$python" -c 'import sys; print("{}.{}".format(*sys.version_info))')"
headers="$("$python" -c 'import sysconfig; print(sysconfig.get_path("include"))')"

missing=()
if ! has_library libEGL.so.1 || ! has_library libGL.so.1 || ! has_egl_driver >/dev/null; then
    missing+=(libegl1 libegl-mesa0 libgl1 libgl1-mesa-dri libglvnd0)
fi
has_library libgthread-2.0.so.0 || missing+=(libglib2.0-0)
command -v cc >/dev/null || missing+=(gcc libc6-dev)
[[ -e /usr/include/linux/input.h ]] || missing+=(linux-libc-dev)
[[ -e "$headers/Python.h" ]] || missing+=("python$version-dev")
"$python" -c 'import ensurepip' 2>/dev/null || missing+=("python$version-venv")

if ((${#missing[@]} == 0)); then
    exit 0
fi
if [[ "$(id -u)" == 0 ]] && command -v apt-get >/dev/null; then
    echo "Installing system libraries: ${missing[*]}"
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}"
    exit 0
fi
cat >&2 <<MESSAGE
Some system packages that the simulator needs are missing. On Debian or Ubuntu install them with:

    sudo apt-get install ${missing[*]}

and run make again. On another system install its packages for EGL, OpenGL, GLib, a C compiler and
Python's headers.
MESSAGE
exit 1
