"""What happens to single requests, step by step: as intervals, as a figure, as a Chrome/Perfetto trace."""

from simsched.timeline.chrome import chrome_trace
from simsched.timeline.intervals import KINDS, Interval, RequestTimeline, StepRow, Timeline, timeline_of

__all__ = ["KINDS", "Interval", "RequestTimeline", "StepRow", "Timeline", "chrome_trace", "timeline_of"]
