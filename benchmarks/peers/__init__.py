"""Who is measured: towline and others, each behind the same four verbs (`base`), on the same shapes."""
