"""The asyncio end of SIP: connections, flows and timers of an agent, over any network."""
