/* rtc_time.h - calendar arithmetic of the RTC, apart from its registers. */
#ifndef RINGER_DEV_CHIPSET_RTC_TIME_H
#define RINGER_DEV_CHIPSET_RTC_TIME_H

#include "base/base.h"

/* Any values may be in it: a guest writes them. year is the full year, month and day count from 1.
 */
struct rtc_time {
	int year, month, day, hour, minute, second;
	int weekday; /* 1 is Sunday */
};

/* Seconds since 1970 to the proleptic Gregorian calendar; within some millions of years. */
void rtc_time_split(int64_t s, struct rtc_time *t);
/* The reverse; values out of range carry over. */
int64_t rtc_time_join(const struct rtc_time *t);

#endif
