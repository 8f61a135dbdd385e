"""The job store that code written for Toil expects: jobs, files, shared files and logs of a workflow, by Toil's verbs.

Light on purpose: import `towline.stores.jobstore.abstract` for AbstractJobStore and `towline.stores.jobstore.errors` for its
exceptions.
"""
