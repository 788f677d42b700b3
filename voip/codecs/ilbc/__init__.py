"""iLBC (RFC 3951), 20 and 30 ms: both directions as array functions over many streams.

Written from the RFC's description; bits depend on figures of its appendix, which are in `tables`.
"""
