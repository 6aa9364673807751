"""What a policy believes about a request, and the rankers that learn it; importing it registers them."""

from simsched.predictors import (
    empirical as empirical,
)
from simsched.predictors import (
    emulated_predictor as emulated_predictor,
)
from simsched.predictors import (
    given as given,
)
from simsched.predictors import (
    oracle as oracle,
)
