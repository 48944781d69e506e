"""The marks of tests that need a real detectron2."""

from importlib.util import find_spec

import pytest

# Its old packages warn when they are imported and used; warnings of ours are errors in the other tests.
needs_detectron2 = [
    pytest.mark.detectron2,
    pytest.mark.skipif(find_spec("detectron2") is None, reason="detectron2 is not in this environment"),
    pytest.mark.filterwarnings("ignore"),
]
