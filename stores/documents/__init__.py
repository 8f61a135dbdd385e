"""The document store behind `towline.JobStore`: jobflow's, over a towline store (decision 0009).

criteria     which documents are meant: MongoDB's language, and what of it can be answered from columns alone
outcomes     the documents of runs: one for each committed outcome, made when it is asked for
written      the documents that somebody wrote: rows of a chain of their own
place        both together behind one name: `DocumentStore`
verbs        what every document store can do once it can query (groupby, distinct, newer_in, ...)
saving       parts of documents that lie in additional stores, and the stubs that stand for them
store        `JobStore`: documents and additional stores as one
files        a JobStore from a file or a dictionary
schema       `JobStoreDocument`
"""
