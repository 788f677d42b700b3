"""From what RTCP reports to how it sounded."""
