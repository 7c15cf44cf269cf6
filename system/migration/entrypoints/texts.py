"""What `bin/migrate --help` teaches."""

from __future__ import annotations

from typing import Final

OVERVIEW: Final = """\
A migration, step by step:

  bin/migrate backup               dumps of the legacy database and the four new ones
  bin/migrate export               legacy rows into migration-data/<service>-data.json
  bin/migrate import --dry-run     everything but the commit: shows what would happen
  bin/migrate import               fills the four databases, one transaction each
  bin/migrate validate             compares counts and the checksum of every row
  bin/migrate status               how far each service is
  bin/migrate rollback payments    takes out of one database what the import put in

Each step may be repeated. Export and validate change nothing; an import that finds everything in
place changes nothing either. A step that fails leaves each database as it was. No events are
published. `bin/migrate COMMAND --help` tells more of each.

environment: DATABASE_URL names the legacy database; AUTH_MIGRATION_DATABASE_URL, PAYMENTS_…,
ADMIN_… and PROFILE_MIGRATION_DATABASE_URL name the new ones, each with its owner role:
postgresql://role:password@host:port/database
exit codes: 0 done, 1 failed, 2 wrong usage
"""

BACKUP: Final = """\
Writes D/backup-<time>/ with a dump of each of the five databases and backup.json, which names
them. Only the owner may read it; it holds tokens and password hashes, so put it away safely.
`import` wants a backup of the same day (UTC). pg_restore brings a database back:

  pg_restore --clean --if-exists --no-owner -d OWNER-URL D/backup-<time>/payments_db.dump
"""

EXPORT: Final = """\
Reads one consistent snapshot of the legacy database and changes nothing there. Each data file
appears only when all are complete. Rows are as they must look after the import:

  e-mails trimmed and in lower case; amounts with two decimals; times in UTC
  refresh tokens as SHA-256 hash only, revoked: people sign in again
  password hashes as they are: people keep their passwords
  preferences.notifications true or false becomes that value for email, push and sms

Only the owner may read the files. metadata.checksums has the SHA-256 of each row's line.
"""

IMPORT: Final = """\
Reads the data files (a service needs its own, payments and admin that of auth as well for their
copies of users) and fills the databases: auth; users of admin and payments; payments; audit log
and configuration; profiles.

Refused, with nothing changed: a file that is missing or was altered; rows that break a constraint
of the new databases, all of them listed; no backup of today (--no-backup if you have another).
Rows that are there with other content stay as they are and are reported, exit code 1; so are
rows that an earlier import put in and somebody deleted since.

Answers that were cached before may be old for a few minutes: `python -m system cache clear`.
"""

VALIDATE: Final = """\
Compares the data files with the databases: the number of rows and the checksum of every row, of
the copies of users id and e-mail (admin: name and role, too). Rows that came after the import do
not count. Exit code 0 only if everything agrees; otherwise 1, with the ids.
"""

ROLLBACK: Final = """\
Removes from the service's database the rows that the import put in, its copy of users included,
children first, in one transaction, and nothing that was created afterwards. It stops if later
rows hang on imported ones, and names them. It asks first; --yes answers.

For all of them: profile, admin, payments, auth.
"""

STATUS: Final = """\
Reads the data files' metadata and each database's book of what was imported (schema
legacy_migration, which goes with the rollback).
"""
