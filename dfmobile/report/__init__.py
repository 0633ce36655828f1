"""Reports to look at: one HTML file from a campaign, its latency table and its device.

SVG is drawn here, without a plotting library.
Everything is rendered from :class:`dfmobile.report.data.ReportData`, never from a database. Floor 7.
"""
