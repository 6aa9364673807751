"""The headline claims of scheduling papers, each checked in the setting that comes closest to its own."""
