"""Chat models behind HTTP, without LangChain: what is asked, how it is sent, and what to do when the server fails.

`model.HostedModel` is the backend. Its protocol is a generator that touches no socket (`model.py`); `wire.py` has the
two thin drivers that do what it asks for, blocking or awaiting.
"""
