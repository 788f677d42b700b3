"""A SIP dialog bound to a media session: the only room with doors to both."""
