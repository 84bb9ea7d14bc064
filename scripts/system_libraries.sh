#!/usr/bin/env bash
# Sees that the system libraries are there that rendering (MuJoCo over EGL), OpenCV (imported by robosuite) and the
# compilation of evdev (a dependency of robosuite) need. Installs what is missing with apt-get when run as root;
# otherwise says what to install and fails.
set -euo pipefail

if [[ "$(uname -s)" != Linux ]]; then
    exit 0 # MuJoCo renders through the system's own OpenGL there
fi

libraries="$(PATH="$PATH:/sbin:/usr/sbin" ldconfig -p)"
has_library() { [[ "$libraries" == *"$1"* ]]; }
has_egl_driver() { compgen -G "/usr/share/glvnd/egl_vendor.d/*.json" || compgen -G "/etc/glvnd/egl_vendor.d/*.json"; }

missing=()
if ! has_library libEGL.so.1 || ! has_library libGL.so.1 || ! has_egl_driver >/dev/null; then
    missing+=(libegl1 libegl-mesa0 libgl1 libgl1-mesa-dri libglvnd0)
fi
has_library libgthread-2.0.so.0 || missing+=(libglib2.0-0)
command -v cc >/dev/null || missing+=(gcc libc6-dev)
[[ -e /usr/include/linux/input.h ]] || missing+=(linux-libc-dev)

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
Some system libraries that the simulator needs are missing. On Debian or Ubuntu install them with:

    sudo apt-get install ${missing[*]}

and run make again. On another system install its packages for EGL, OpenGL, GLib and a C compiler.
MESSAGE
exit 1
