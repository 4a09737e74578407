"""Durable execution for Python, embedded: workflows that survive, without a server."""
