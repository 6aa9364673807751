"""`python -m validate`."""

import os
import sys

from validate.cli import main

try:
    main()
    code = 0
except SystemExit as stop:
    code = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
if "vllm" in sys.modules:
    # All is written and every engine is closed. vLLM and its libraries may leave threads behind that keep the
    # interpreter from ending (a lock-step run on 0.24.0 did): don't wait for them.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
sys.exit(code)
