"""Routers, one small file each; importing the package registers them."""

from simsched.routers import (
    cache_aware as cache_aware,
)
from simsched.routers import (
    dynamo as dynamo,
)
from simsched.routers import (
    least_requests as least_requests,
)
from simsched.routers import (
    llm_d as llm_d,
)
from simsched.routers import (
    power_of_two as power_of_two,
)
from simsched.routers import (
    predicted_work as predicted_work,
)
from simsched.routers import (
    prefix_hash as prefix_hash,
)
from simsched.routers import (
    random_choice as random_choice,
)
from simsched.routers import (
    round_robin as round_robin,
)
from simsched.routers import (
    session as session,
)
from simsched.routers import (
    vllm_dp as vllm_dp,
)
