# Sourced by quickstart and test: makes the environment ($STATESHIFT_VENV, or .venv) where it is absent
# and sets `bin`, the folder of its commands.
find_python() {
    local name
    for name in python3.12 python3.11 python3 python; do
        if command -v "$name" >/dev/null &&
            "$name" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info[:2] not in ((3, 11), (3, 12)))' 2>/dev/null; then
            echo "$name"
            return
        fi
    done
    echo "stateshift needs Python 3.11 or 3.12 with its venv module, and none was found on PATH." >&2
    return 2
}

environment="${STATESHIFT_VENV:-.venv}"
if [[ ! -x "$environment/bin/python" ]]; then
    python="$(find_python)" || exit 2
    echo "Making $environment with $("$python" --version)."
    "$python" -m venv "$environment"
fi
bin="$(cd "$environment/bin" && pwd)"
