# Sourced by scripts/run and scripts/test: what they need, installed only where it is missing.
# Functions print what they do to standard error and end the script with a clear message when they can't.

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
VENV=$ROOT/.venv
WANTED_PACKAGES=()

say() { printf '%s\n' "$*" >&2; }
die() {
    say "${0##*/}: $*"
    exit 1
}

is_root() { [ "$(id -u)" = 0 ]; }

has_library() { # NAME.so.N, known to the dynamic linker
    local cache
    cache=$(PATH=$PATH:/sbin:/usr/sbin ldconfig -p 2>/dev/null) && [[ $cache == *"$1 "* ]]
}

has_command() { PATH=$PATH:/sbin:/usr/sbin command -v "$1" >/dev/null; }

is_static() { # an ELF file that asks for no dynamic loader; its name would be near the start
    [ -x "$1" ] && ! head -c 4096 "$1" | LC_ALL=C grep -aq '/ld'
}

want() { WANTED_PACKAGES+=("$@"); }

find_python() { # sets PYTHON to the first interpreter that is new enough
    local name
    for name in ${MINIKUBELET_PYTHON:-python3 python3.14 python3.13 python3.12 python3.11}; do
        if "$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            PYTHON=$name
            return 0
        fi
    done
    return 1
}

want_to_run() { # what every use needs
    has_library libnftables.so.1 || want libnftables1
    has_library libseccomp.so.2 || want libseccomp2
}

want_to_install() { # what making .venv needs
    if ! find_python; then
        has_command python3 || want python3 python3-venv
    elif ! "$PYTHON" -c 'import venv, ensurepip' 2>/dev/null; then
        case $PYTHON in python3) want python3-venv ;; *) want "$PYTHON-venv" ;; esac
    fi
    if ! has_command cc && ! has_command gcc && ! has_command clang; then want gcc; fi
    [ -e /usr/include/errno.h ] || want libc6-dev
}

want_busybox() { # what images are made from
    is_static /bin/busybox || is_static /usr/bin/busybox || want busybox-static
}

install_wanted() {
    [ ${#WANTED_PACKAGES[@]} -eq 0 ] && return
    has_command apt-get || die "missing (by their Debian names): ${WANTED_PACKAGES[*]}; install them, then run this again"
    is_root || die "missing packages: ${WANTED_PACKAGES[*]}; run this as root once, or install them"
    say "installing ${WANTED_PACKAGES[*]}"
    local log
    log=$(mktemp)
    if ! { apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "${WANTED_PACKAGES[@]}"; } \
        >"$log" 2>&1 </dev/null; then
        tail -n 20 "$log" >&2
        rm -f "$log"
        die "could not install ${WANTED_PACKAGES[*]}"
    fi
    rm -f "$log"
    WANTED_PACKAGES=()
}

stamp_of() { # LOCK: what an environment made from it depends on
    (cd "$ROOT" && sha256sum "$1" pyproject.toml scripts/build_hook.py minikubelet/spawner/pause.c) && echo "$ROOT"
}

venv_is_current() { # LOCK; an environment for development also serves to run
    local lock
    [ -x "$VENV/bin/python" ] && [ -x "$VENV/bin/minikubelet" ] && [ -x "$ROOT/minikubelet/spawner/pause" ] || return
    for lock in "$1" requirements-dev.lock; do
        [ "$(cat "$VENV/.$lock.stamp" 2>/dev/null)" != "$(stamp_of "$lock")" ] || return 0
    done
    return 1
}

# Makes .venv hold what LOCK lists and this project, editable. Called after install_wanted.
setup_venv() { # LOCK
    local lock=$1 pip
    find_python || die "needs Python 3.11 or later; this is $(python3 --version 2>&1)." \
        "On Ubuntu 22.04: apt-get install python3.11 python3.11-venv"
    "$VENV/bin/python" -c 'import pip' 2>/dev/null || {
        say "creating .venv with $("$PYTHON" --version)"
        "$PYTHON" -m venv --clear "$VENV" >&2 || die "could not create .venv"
    }
    say "installing what $lock lists into .venv"
    pip=("$VENV/bin/python" -m pip --disable-pip-version-check --quiet --no-input)
    "${pip[@]}" install --require-hashes --only-binary :all: -r "$ROOT/$lock" >&2 || die "could not install $lock"
    "${pip[@]}" install --no-deps --no-build-isolation --editable "$ROOT" >&2 || die "could not install minikubelet"
    stamp_of "$lock" >"$VENV/.$lock.stamp"
}

# Everything for `minikubelet` itself, plus the packages that the caller already asked for with want.
setup() { # LOCK
    want_to_run
    if venv_is_current "$1"; then
        install_wanted
        return
    fi
    want_to_install
    install_wanted
    setup_venv "$1"
}
