"""A cost profile from latencies alone: means of a server's runs, met by simulating those runs."""

NOT_ASKED = (
    "title", "figures", "request_rate", "num_runs", "seed", "warmup", "cooldown", "goodput", "baseline",
    "log_steps",
)  # fmt: skip
"""Options of a study that say nothing of a server that was measured: not used."""
REFUSED = ("host_speed", "host_jitter", "num_replicas", "replicas", "router")
"""Options for which means of one server are not enough."""
