"""Words and plain text: `name(key=value)` specs, labels of metrics, tables."""
