"""`python -m stp.lm_eval` is the harness's own command line, `lm_eval`, which knows `--model stp` besides its own models.

The harness looks models up in a registry in memory, and imports no package of others by itself.
"""

import warnings
from importlib.util import find_spec

from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from stp.cli import stop, with_causes
from stp.errors import UserError

if __name__ == "__main__":
    if find_spec("lm_eval") is None:
        stop("lm_eval: the harness is not installed; pip install 'stp-dllm[eval]' (in a checkout: pip install -e '.[eval]')")
    warnings.filterwarnings("ignore", category=FutureWarning)
    from lm_eval.__main__ import cli_evaluate

    from stp.lm_eval import adapter  # registers the model  # noqa: F401

    try:
        cli_evaluate()
    except (UserError, HydraException, OmegaConfBaseException) as error:
        stop(with_causes(error))
