"""Scheduling policies, one file each; importing the package registers them."""

from simsched.policies import (
    classification as classification,
)
from simsched.policies import (
    fastserve as fastserve,
)
from simsched.policies import (
    fcfs as fcfs,
)
from simsched.policies import (
    ljf as ljf,
)
from simsched.policies import (
    mlfq as mlfq,
)
from simsched.policies import (
    po as po,
)
from simsched.policies import (
    priority as priority,
)
from simsched.policies import (
    ranking as ranking,
)
from simsched.policies import (
    sjf as sjf,
)
from simsched.policies import (
    sjf_aging as sjf_aging,
)
from simsched.policies import (
    srtf as srtf,
)
from simsched.policies import (
    uniboost as uniboost,
)
