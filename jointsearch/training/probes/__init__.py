"""Cheap measurements that tell a search where to look."""
