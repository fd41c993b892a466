"""The STGR data pipeline: read, check, annotate, filter, export."""
