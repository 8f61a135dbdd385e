"""Places for bytes: the few verbs that memory, local disk and buckets share."""
