#!/usr/bin/env bash
# Recorded battles in, a trained Gemma battle agent out, playing on the real simulator. A few minutes on two cores.
for program in node npm; do
    if ! command -v "$program" >/dev/null; then
        echo "quickstart: there is no $program here, on which battles are played; install Node.js 18 or newer (https://nodejs.org)" >&2
        exit 1
    fi
done
if [ "$(node -p 'parseInt(process.versions.node)')" -lt 18 ]; then
    echo "quickstart: Node.js $(node -p 'process.versions.node') is too old for the simulator; install 18 or newer (https://nodejs.org)" >&2
    exit 1
fi
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh" battle

exec python scripts/quickstart.py "$@"
