"""Scheduling policies, one file each; importing the package registers them."""

from simsched.policies import (
    a_min as a_min,
)
from simsched.policies import (
    atlas as atlas,
)
from simsched.policies import (
    classification as classification,
)
from simsched.policies import (
    dfs_weight as dfs_weight,
)
from simsched.policies import (
    dlpm as dlpm,
)
from simsched.policies import (
    edf as edf,
)
from simsched.policies import (
    elis as elis,
)
from simsched.policies import (
    fair_batching as fair_batching,
)
from simsched.policies import (
    fastserve as fastserve,
)
from simsched.policies import (
    fcfs as fcfs,
)
from simsched.policies import (
    gittins as gittins,
)
from simsched.policies import (
    hrrn as hrrn,
)
from simsched.policies import (
    least_slack as least_slack,
)
from simsched.policies import (
    ljf as ljf,
)
from simsched.policies import (
    lpm as lpm,
)
from simsched.policies import (
    mc_sf as mc_sf,
)
from simsched.policies import (
    mlfq as mlfq,
)
from simsched.policies import (
    p_pas as p_pas,
)
from simsched.policies import (
    past_future as past_future,
)
from simsched.policies import (
    plas as plas,
)
from simsched.policies import (
    po as po,
)
from simsched.policies import (
    priority as priority,
)
from simsched.policies import (
    qoserve as qoserve,
)
from simsched.policies import (
    ranking as ranking,
)
from simsched.policies import (
    sagesched as sagesched,
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
    svf as svf,
)
from simsched.policies import (
    tie as tie,
)
from simsched.policies import (
    trail as trail,
)
from simsched.policies import (
    uncached_first as uncached_first,
)
from simsched.policies import (
    uniboost as uniboost,
)
from simsched.policies import (
    uniboost_guard as uniboost_guard,
)
from simsched.policies import (
    vtc as vtc,
)
