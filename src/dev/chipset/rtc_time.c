/* rtc_time.c - calendar arithmetic. Years begin in March, so that the leap day is a year's last. */
#include "dev/chipset/rtc_time.h"

#define DAY 86400
#define DAYS_400Y 146097
#define EPOCH_SHIFT 719468 /* days from 0000-03-01 to 1970-01-01 */

static int64_t floor_div(int64_t a, int64_t b)
{
	return a / b - (a % b < 0);
}

static int64_t days_before_year(int64_t y)
{
	return y * 365 + floor_div(y, 4) - floor_div(y, 100) + floor_div(y, 400);
}

/* Days from 1 March to the first of the m-th month after it: 0, 31, 61, 92, 122, 153, ... */
static int days_before_month(int m)
{
	return (153 * m + 2) / 5;
}

int64_t rtc_time_join(const struct rtc_time *t)
{
	int64_t months = (int64_t)t->year * 12 + t->month - 3;
	int64_t y = floor_div(months, 12);
	int64_t days = days_before_year(y) + days_before_month(months - y * 12) + t->day - 1;

	return (days - EPOCH_SHIFT) * DAY + t->hour * 3600 + t->minute * 60 + t->second;
}

void rtc_time_split(int64_t s, struct rtc_time *t)
{
	int64_t days = floor_div(s, DAY), shifted = days + EPOCH_SHIFT;
	int64_t y = floor_div(shifted * 400, DAYS_400Y);
	int in_day = s - days * DAY, in_year, m;

	/* The mean year's length misses by a day at most. */
	if (days_before_year(y + 1) <= shifted)
		y++;
	if (days_before_year(y) > shifted)
		y--;
	in_year = shifted - days_before_year(y);
	m = (5 * in_year + 2) / 153;
	t->day = in_year - days_before_month(m) + 1;
	t->month = m < 10 ? m + 3 : m - 9;
	t->year = y + (m >= 10);
	t->hour = in_day / 3600;
	t->minute = in_day / 60 % 60;
	t->second = in_day % 60;
	t->weekday = days + 4 - floor_div(days + 4, 7) * 7 + 1; /* 1970-01-01 was a Thursday */
}
