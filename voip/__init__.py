"""A headless softphone, a call-control API for asyncio, and a laboratory for testing PBXes."""
