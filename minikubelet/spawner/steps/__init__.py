"""What a child does between clone(2) and execve(2): small steps that execute and describe themselves.

Plans are made in the monitor (``plans.py``); after the clone nothing is imported, looked up by NSS or codec,
and a child leaves only by execve(2) or ``os._exit``.
"""
