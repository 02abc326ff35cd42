"""``greffon audit``: faults of a folder of photos, before a model is trained on it."""

from greffon.jobs.audit.job import FIXES, audit
from greffon.jobs.audit.result import AuditResult, write_audit

__all__ = ["FIXES", "AuditResult", "audit", "write_audit"]
