/* What the test programs share: expectations that are counted instead of ending the program. */
#ifndef EXPECT_H
#define EXPECT_H

#include "brillm.h"

#include <stdio.h>
#include <string.h>

static int faults = 0;

#define EXPECT(condition)                                                     \
    do {                                                                      \
        if (!(condition)) {                                                   \
            printf("line %d: %s\n", __LINE__, #condition);                    \
            faults++;                                                         \
        }                                                                     \
    } while (0)

/* Expects a status whose message names something, and frees the error. */
#define REFUSED(status, call, words)                                          \
    do {                                                                      \
        brillm_error *error = NULL;                                           \
        EXPECT((call) == (status));                                           \
        EXPECT(brillm_error_status(error) == (status));                       \
        if (strstr(brillm_error_message(error), words) == NULL) {             \
            printf("line %d: \"%s\" does not say \"%s\"\n", __LINE__, brillm_error_message(error), words); \
            faults++;                                                         \
        }                                                                     \
        brillm_error_free(error);                                             \
    } while (0)

#endif
