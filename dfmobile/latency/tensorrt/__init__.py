"""TensorRT: what its tools say and take by version, and what drives them.

Flags, log, times, profiles and failures of ``trtexec`` are pure functions: they start no process and know no transport.
The formats and where each was checked:

============================  ===============================================  ======================================
what                          checked against real output of                   only against NVIDIA's open sources
============================  ===============================================  ======================================
banner, options, device       8.0.1, 8.4.0, 8.5.2, 8.5.3, 10.3, 10.16.1        7.1 (a banner without version is real)
performance summary           7.x (min to median), 8.0.1, 8.2, 8.4, 10, 10.16  7.1's percentile and enqueue, 11
``--exportTimes``             8.4 or later (NVIDIA's A100 sample)              7.1, 8.0, 8.2, 11
``--exportProfile``           8.4 or later (NVIDIA's A100 sample)              7.1, 8.0, 8.2, 11
``--dumpProfile``             8.5.2 (name first), 10.16.1 (name last)          7.1, 8.0, 8.2, 8.6, 11
failures                      7.1, 8.5.3, 8.6, 10.0, 10.3 (see ``failures``)   the others
flags                         8.5.3 (its help)                                 7.1 to 11.1
============================  ===============================================  ======================================

No line of it was verified on a board by this project.
"""
