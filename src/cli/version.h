/* version.h - which Ringer this is. */
#ifndef RINGER_CLI_VERSION_H
#define RINGER_CLI_VERSION_H

extern const char ringer_version[]; /* "0.1.0" */

#endif
