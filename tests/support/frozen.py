"""Imported last by the fork server: its objects are no longer looked at by garbage collections.

A collection in a forked process would visit, and so copy, each page of the loaded TensorFlow.
"""

import gc

gc.collect()
gc.freeze()
