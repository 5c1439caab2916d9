#!/usr/bin/env bash
# Recorded battles in, a trained Gemma battle agent out, playing on the real simulator. A few minutes on two cores.
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh" battle

exec python scripts/quickstart.py "$@"
